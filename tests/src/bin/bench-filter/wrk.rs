//! Whether the load generator measures what wrk would: the same Envoy under both.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    thread::sleep,
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use super::{
    config::Variant,
    cores::Cores,
    load::{CONNECTIONS, Load},
    result::NONE,
    sample::{Envoy, Programs, Sample, Timing},
};

/// Prints CPU a request and the rate under both generators, where wrk is installed.
pub(crate) fn check(programs: &Programs, cores: &Cores, sink: SocketAddr, timing: Timing) -> Result<()> {
    if Command::new("wrk")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        println!("load generator: not compared with wrk, which is not installed");
        return Ok(());
    }
    let none = Variant {
        name: NONE.to_owned(),
        module: None,
        copies: 0,
    };
    let envoy = Envoy::start(programs, cores, &none, sink)?;
    let mut load = Load::start(&programs.cell, envoy.target())?;
    sleep(timing.warm_up);
    let ours = envoy.sample(timing.sample, || load.completed())?;
    drop(load);
    let wrks = sample_under_wrk(&envoy, timing)?;
    println!(
        "load generator: {:.1} us/request at {:.0} requests/s; under wrk {:.1} us/request at {:.0} requests/s",
        ours.cpu_us, ours.per_second, wrks.cpu_us, wrks.per_second
    );
    Ok(())
}

/// wrk tells its count at its end only, so its start and end are in the window.
fn sample_under_wrk(envoy: &Envoy, timing: Timing) -> Result<Sample> {
    let seconds = timing.sample.as_secs().max(1).to_string();
    let url = format!("http://{}/", envoy.target());
    let (cpu, start) = (envoy.cpu_ns()?, Instant::now());
    let output = Command::new("wrk")
        .args([
            "-t",
            "1",
            "-c",
            CONNECTIONS,
            "-d",
            &seconds,
            "-H",
            "host: cart.shop.svc.cluster.local",
            &url,
        ])
        .output()
        .context("wrk cannot be started")?;
    let (cpu, elapsed) = (envoy.cpu_ns()? - cpu, start.elapsed().as_secs_f64());
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "wrk failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let requests = requests(&text).with_context(|| format!("wrk says no count:\n{text}"))?;
    envoy.figures(requests, cpu, elapsed)
}

/// The count in a line such as `  30012 requests in 2.00s, 4.01MB read`.
fn requests(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(" requests in "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_count_is_found() {
        let text = "Running 2s test\n  30012 requests in 2.00s, 4.01MB read\nRequests/sec:  14998.2\n";
        assert_eq!(super::requests(text), Some(30_012));
        assert_eq!(super::requests("unable to connect"), None);
    }
}

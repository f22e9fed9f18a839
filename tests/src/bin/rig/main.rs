//! A control plane to try things on, until the standard input ends or Ctrl-C.

use std::io::Read;

use gma_tests::rig::{Requirements, Rig};

fn main() -> anyhow::Result<()> {
    let requirements = Requirements::find(&[]).map_err(anyhow::Error::msg)?;
    let rig = Rig::start(&requirements)?;
    for (step, time) in rig.steps() {
        println!("{step}: {:.1} s", time.as_secs_f64());
    }
    rig.run(async |cluster| {
        cluster.add_node("edge-1", "edge/edge-1").await?;
        cluster.add_node("cloud-1", "cloud/cloud-1").await
    })??;
    for (name, id) in rig.processes() {
        println!("process {name} {id}");
    }
    println!("folder {}", rig.folder().display());
    if let Some((_, id)) = rig.processes().first() {
        println!("enter with: nsenter --net=/proc/{id}/ns/net");
    }
    println!("kubeconfig {}", rig.folder().join("admin.kubeconfig").display());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

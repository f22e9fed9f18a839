//! `gma check`: what of a cluster keeps an `EdgePlacement` from working, each with what ends it.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use gma_k8s::check::{Application, Finding, Report, Scope, Severity, Told, examine, exit_code};

use crate::args::{MeshArgs, OutputFormat};
use crate::output::{print, shown};
use crate::status::{Client, Paint, Tone, runtime};

/// Arguments of `gma check`.
#[derive(Debug, Args)]
#[command(
    after_help = "The cluster is that of KUBECONFIG, or the pod's own. Nothing in it is changed.\n\n\
    Exit codes: 0 nothing is found but notes, 1 no check was made (no cluster answered), 2 wrong arguments, 3 warnings, 4 errors."
)]
pub struct CheckArgs {
    /// One EdgePlacement [default: all of the namespace; where there is none, what can be known before].
    #[arg(value_name = "EDGEPLACEMENT")]
    pub object: Option<String>,

    /// The application's namespace [default: the kubeconfig's].
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// Address of the controller [default: it is asked through the API server].
    #[arg(long, env = "GMA_ADDRESS", value_name = "URL")]
    pub address: Option<String>,

    #[command(flatten)]
    pub names: NameArgs,

    /// Format of the result.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}

/// Names that a cluster may have changed.
#[derive(Clone, Debug, Args)]
pub struct NameArgs {
    /// The controller's namespace.
    #[arg(long, value_name = "NAMESPACE", default_value = "gma-system")]
    pub controller_namespace: String,

    #[command(flatten)]
    pub mesh: MeshArgs,
}

/// Runs the command.
///
/// # Errors
/// No cluster is configured, or it does not answer.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let report = runtime()?.block_on(async {
        let told = match &args.address {
            Some(address) => Some(ask(address, args).await?),
            None => None,
        };
        examine(Scope {
            namespace: args.namespace.clone(),
            object: args.object.clone(),
            own_namespace: args.names.controller_namespace.clone(),
            root_namespace: args.names.mesh.root_namespace.clone(),
            domain: args.names.mesh.cluster_domain.clone(),
            told,
        })
        .await
    })?;
    let paint = Paint::of_stdout();
    print(&shown(&report, args.output, |report| table(report, paint))?)?;
    Ok(ExitCode::from(exit_code(&report.findings)))
}

/// What the controller at an address tells, of the oldest object where none is named; that it is silent is a finding like
/// others.
async fn ask(address: &str, args: &CheckArgs) -> anyhow::Result<Told> {
    let named = args.namespace.as_ref().zip(args.object.as_ref());
    let object = named.map(|(namespace, name)| format!("{namespace}/{name}"));
    let client = Client::new(address, object.as_deref())?;
    Ok(match client.answer().await {
        Ok(answer) => Told::read(&answer),
        Err(error) => Told::Nothing(error.to_string()),
    })
}

fn table(report: &Report, paint: Paint) -> String {
    let mut text = String::new();
    for application in &report.applications {
        text.push_str(&paint.paint(Tone::Strong, &heading(application)));
        text.push('\n');
    }
    for finding in &report.findings {
        text.push('\n');
        add(finding, paint, &mut text);
    }
    let count = |severity| {
        let found = report
            .findings
            .iter()
            .filter(|finding| finding.severity == severity);
        found.count()
    };
    let (errors, warnings, notes) = (
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Info),
    );
    text.push('\n');
    text.push_str(&match (errors, warnings, notes) {
        (0, 0, 0) => paint.paint(Tone::Good, "nothing was found"),
        (0, 0, _) => paint.paint(
            Tone::Good,
            &format!("no error, no warning, {}", plural(notes, "note")),
        ),
        _ => format!(
            "{}, {}, {}",
            plural(errors, "error"),
            plural(warnings, "warning"),
            plural(notes, "note")
        ),
    });
    text.push('\n');
    text
}

fn heading(application: &Application) -> String {
    let Application {
        namespace,
        object,
        proxies,
        with_filter,
        reporting,
    } = application;
    let name = object.as_ref().map_or_else(
        || format!("namespace {namespace}, without an EdgePlacement"),
        |object| format!("EdgePlacement {namespace}/{object}"),
    );
    let reporting = reporting.map_or_else(String::new, |count| format!(", {count} report"));
    format!("{name}: {proxies} proxies, {with_filter} get the filter{reporting}")
}

fn add(finding: &Finding, paint: Paint, text: &mut String) {
    let tone = match finding.severity {
        Severity::Error => Tone::Bad,
        Severity::Warning => Tone::Wait,
        Severity::Info => Tone::Strong,
    };
    let severity = paint.paint(tone, &format!("{:7}", finding.severity.as_str()));
    // A write to a String does not fail.
    let _ok = writeln!(text, "{severity}  {}: {}", finding.object, finding.what);
    let mut lines = finding.fix.trim_end().lines();
    let _ok = writeln!(text, "{:7}  fix: {}", "", lines.next().unwrap_or_default());
    for line in lines {
        let _ok = writeln!(text, "{:7}       {line}", "");
    }
}

fn plural(count: usize, word: &str) -> String {
    match count {
        0 => format!("no {word}s"),
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    }
}

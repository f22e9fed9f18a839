//! Reports as text for people, at most 100 columns wide, without colour.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use gma_core::solver::Reach;

use super::report::{
    BoundReport, CompareReport, CostReport, EdgePlan, PlanReport, ProblemSummary, RunnerUpReport, UseReport,
};

/// Columns that every table keeps to: a common width of terminals and of code in documents.
const WIDTH: u16 = 100;
/// Edges that a comparison shows each in a column; with more, it shows the slowest against its target.
const EDGE_COLUMNS: usize = 3;

/// Services that a cell or a sentence names; the rest is counted.
const NAMED: usize = 40;
const NAMED_IN_TEXT: usize = 8;
/// Edges that a sentence names.
const EDGES_IN_TEXT: usize = 3;

/// A plan.
pub(super) fn plan(report: &PlanReport) -> String {
    let currency = currency(&report.problem);
    let mut sections = vec![
        title(&report.problem),
        edges(&report.edges),
        moves(&report.edges),
        reasons(&report.edges),
        costs(&report.cost, &currency),
    ];
    let mut notes = Vec::new();
    if !report.breaks.is_empty() {
        notes.push(format!("Exceeds {}.", report.breaks.join(", ")));
    }
    if let Some(bound) = &report.bound {
        notes.push(bound_text(bound, &currency));
    }
    if let Some(origin) = &report.origin {
        notes.push(format!("The placement is {}.", origin_text(origin)));
    }
    if let Some(other) = &report.runner_up {
        notes.push(runner_up(other, &currency));
    }
    let more = if report.budget_exhausted {
        "; the budget ended the search, more may find better (--budget)"
    } else {
        ""
    };
    notes.push(format!(
        "Found by {}: {} evaluations in {}{more}.",
        report.strategy,
        report.evaluations,
        time(report.seconds)
    ));
    sections.push(notes.iter().map(|note| wrapped(note)).collect());
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

/// A comparison.
pub(super) fn compare(report: &CompareReport, edges: &[String]) -> String {
    let mut table = table();
    let shown = edges.len() <= EDGE_COLUMNS;
    let mut header = vec!["STRATEGY".to_owned()];
    if shown {
        header.extend(edges.iter().map(|edge| format!("{edge} ms")));
    } else {
        header.push("slowest edge ms".to_owned());
    }
    let cost = format!("cost{}/h", currency(&report.problem));
    header.extend([&cost, "met", "moves", "evaluated", "time"].map(str::to_owned));
    let columns = header.len();
    table.set_header(header);
    for method in &report.methods {
        let delays = &method.predicted_delay_ms;
        let mut row = vec![method.strategy.clone()];
        if shown {
            row.extend(delays.iter().map(|delay| format!("{delay:.1}")));
        } else {
            row.push(format!("{:.1}", delays.iter().copied().fold(0.0, f64::max)));
        }
        let met = match method.target_met {
            _ if !method.breaks.is_empty() => "no *",
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        let stopped = if method.budget_exhausted { " (all)" } else { "" };
        row.extend([
            format!("{:.4}", method.cost_per_hour),
            met.to_owned(),
            method.moves.to_string(),
            format!("{}{stopped}", method.evaluations),
            time(method.seconds),
        ]);
        table.add_row(row);
    }
    for column in 1..columns {
        if column + 4 != columns {
            right(&mut table, column);
        }
    }
    let broken = report.methods.iter().filter(|method| !method.breaks.is_empty());
    let notes: String = broken
        .map(|method| {
            wrapped(&format!(
                "* {} exceeds {}.",
                method.strategy,
                method.breaks.join(", ")
            ))
        })
        .collect();
    let gap = if notes.is_empty() { "" } else { "\n" };
    format!("{}\n{}\n{gap}{notes}", title(&report.problem), table.trim_fmt())
}

fn title(problem: &ProblemSummary) -> String {
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!(
        "{}: {}, {}, {}\n",
        problem.name,
        plural(problem.services, "service"),
        plural(problem.edges, "edge"),
        plural(problem.calls, "call"),
    )
}

fn edges(edges: &[EdgePlan]) -> String {
    let mut table = table();
    table.set_header([
        "EDGE",
        "now ms",
        "planned ms",
        "target ms",
        "met",
        "CPU",
        "memory GB",
        "pods",
        "link",
    ]);
    for edge in edges {
        let target = edge
            .delay
            .target_ms
            .map_or_else(|| "-".to_owned(), |target| format!("{target:.1}"));
        let met = match edge.reach {
            Reach::Met => "yes",
            Reach::NoTarget => "-",
            _ => "no",
        };
        let UseReport {
            cpu_cores,
            memory_gb,
            pods,
            ..
        } = edge.used;
        table.add_row([
            edge.name.clone(),
            format!("{:.1}", edge.delay.now_ms),
            format!("{:.1}", edge.delay.predicted_ms),
            target,
            met.to_owned(),
            of(
                format!("{cpu_cores:.2}"),
                edge.used.cpu_cores_limit.map(|limit| format!("{limit:.2}")),
            ),
            of(
                format!("{memory_gb:.2}"),
                edge.used.memory_gb_limit.map(|limit| format!("{limit:.2}")),
            ),
            of(
                pods.to_string(),
                edge.used.pods_limit.map(|limit| limit.to_string()),
            ),
            format!("{:.1} %", edge.used.link_utilisation * 100.0),
        ]);
    }
    for column in [1, 2, 3, 5, 6, 7, 8] {
        right(&mut table, column);
    }
    table.trim_fmt() + "\n"
}

fn of(used: String, limit: Option<String>) -> String {
    match limit {
        Some(limit) => format!("{used} of {limit}"),
        None => used,
    }
}

fn moves(edges: &[EdgePlan]) -> String {
    let list = |services: &[String]| some(services, NAMED);
    let mut table = table();
    table.set_header(["EDGE", "placement", "add", "remove"]);
    for edge in edges {
        table.add_row([
            edge.name.clone(),
            list(&edge.placement),
            list(&edge.add),
            list(&edge.remove),
        ]);
    }
    table.trim_fmt() + "\n"
}

/// The first names, and how many there are beyond them.
fn some(names: &[String], most: usize) -> String {
    if names.is_empty() {
        return "-".to_owned();
    }
    let shown: Vec<&str> = names.iter().take(most).map(String::as_str).collect();
    match names.len().saturating_sub(most) {
        0 => shown.join(" "),
        more => format!("{} and {more} more", shown.join(" ")),
    }
}

fn reasons(edges: &[EdgePlan]) -> String {
    let missed = edges
        .iter()
        .filter(|edge| !matches!(edge.reach, Reach::Met | Reach::NoTarget));
    missed
        .map(|edge| wrapped(&format!("{}: {}.", edge.name, edge.reason)))
        .collect()
}

fn costs(cost: &CostReport, currency: &str) -> String {
    let mut table = table();
    table.set_header([
        format!("COST{currency}/h"),
        "now".to_owned(),
        "planned".to_owned(),
        "change".to_owned(),
    ]);
    let mut row = |what: String, now: f64, planned: f64| {
        table.add_row([
            what,
            format!("{now:.4}"),
            format!("{planned:.4}"),
            format!("{:+.4}", planned - now),
        ]);
    };
    row(
        "cloud replicas".to_owned(),
        cost.now.cloud_replicas,
        cost.planned.cloud_replicas,
    );
    for (now, planned) in cost.now.edges.iter().zip(&cost.planned.edges) {
        row(format!("{} replicas", now.name), now.replicas, planned.replicas);
        row(format!("{} traffic", now.name), now.traffic, planned.traffic);
    }
    row(
        "total".to_owned(),
        cost.now.total_per_hour,
        cost.planned.total_per_hour,
    );
    for column in 1..4 {
        right(&mut table, column);
    }
    table.trim_fmt() + "\n"
}

fn bound_text(bound: &BoundReport, currency: &str) -> String {
    let lower = format!("{:.4}{currency}/h", bound.cost_per_hour);
    if bound.proven_optimal {
        return format!("Proven optimal: costs no more than {}.", bound.covers);
    }
    let increase = bound.gap_of_increase.map_or_else(String::new, |gap| {
        format!(", {:.2} % of what it costs beyond an empty edge", gap * 100.0)
    });
    format!(
        "Gap: at most {:.2} % of the cost could be saved{increase}: {lower} is a lower bound of the cost of {}.",
        bound.gap * 100.0,
        bound.covers
    )
}

fn origin_text(origin: &str) -> String {
    match origin {
        "staying" => "what runs already".to_owned(),
        "nothing" => "an empty edge but for pins".to_owned(),
        "everything" => "everything that may run at the edges".to_owned(),
        "relaxation" => "a choice of the relaxation".to_owned(),
        "search" => "a small change of another one".to_owned(),
        strategy => format!("that of {strategy}"),
    }
}

fn runner_up(other: &RunnerUpReport, currency: &str) -> String {
    let delays = other.predicted_delay_ms.iter().take(EDGES_IN_TEXT);
    let mut delays: Vec<String> = delays.map(|delay| format!("{delay:.1}")).collect();
    if other.predicted_delay_ms.len() > EDGES_IN_TEXT {
        delays.push("…".to_owned());
    }
    let mut text = format!(
        "Runner-up of those seen: {}, {:.4}{currency}/h, {} ms; it lost because {}.",
        origin_text(&other.origin),
        other.cost_per_hour,
        delays.join(", "),
        other.reason,
    );
    for edge in other.edges.iter().take(EDGES_IN_TEXT) {
        let parts = [("with", &edge.also), ("without", &edge.not)];
        let parts = parts.into_iter().filter(|(_, services)| !services.is_empty());
        let parts: Vec<String> = parts
            .map(|(word, services)| format!("{word} {}", some(services, NAMED_IN_TEXT)))
            .collect();
        text += &format!(" At {} {}.", edge.name, parts.join(" "));
    }
    if let more @ 1.. = other.edges.len().saturating_sub(EDGES_IN_TEXT) {
        text += &format!(" It differs at {more} more edges.");
    }
    text
}

fn currency(problem: &ProblemSummary) -> String {
    problem
        .currency
        .as_ref()
        .map_or_else(String::new, |currency| format!(" {currency}"))
}

fn time(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.1} s")
    }
}

fn table() -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    table
}

fn right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Lines of at most [`WIDTH`] columns, the later ones indented.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { continue };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= usize::from(WIDTH) {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(format!("  {word}"));
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

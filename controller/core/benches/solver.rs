//! `make bench-solver`: the solver over generated applications.
//!
//! First a table in Markdown: for each kind of application a process of its own solves [`APPLICATIONS`] of them (its
//! peak memory is then the solver's) and runs every strategy on the same ones. Then criterion's times.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark: what fails ends it"
)]

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode};
use gma_core::generate::{Recipe, generate};
use gma_core::model::{DensePlacement, EdgeIx, Evaluation, Problem, Shares, evaluate};
use gma_core::solver::{Budget, Solution, solve};
use gma_core::strategy::{Goal, Params, Strategy, Traces, run};
use gma_core::units::Micros;

/// Applications of each kind: seeds 0, 1, 2, …
const APPLICATIONS: u64 = 10;
const SIZES: [usize; 6] = [10, 20, 50, 120, 200, 500];
const EDGES: [usize; 2] = [1, 3];
/// The simulators' target.
const TARGET_US: f64 = 100e3;
/// Solves of an application that take less than [`LONG`]; one of longer ones.
const SOLVES: usize = 3;
const LONG: Duration = Duration::from_millis(50);
/// Criterion's samples of a solve.
const SAMPLES: u32 = 10;
/// The argument that makes a process measure one kind, and print its row.
const ROW: &str = "--row";
/// Sums in another order differ by less than this share.
const ROUNDING: f64 = 1e-9;

/// A kind of application.
#[derive(Clone, Copy)]
struct Kind {
    services: usize,
    edges: usize,
    dense: bool,
}

struct Solved {
    problem: Problem,
    cpu: Duration,
    solution: Solution,
    void_cost: f64,
}

// === impl Kind ===

impl Kind {
    fn all() -> impl Iterator<Item = Self> {
        let of_size = |services| {
            let kinds = EDGES
                .into_iter()
                .flat_map(|edges| [(edges, false), (edges, true)]);
            kinds.map(move |(edges, dense)| Self {
                services,
                edges,
                dense,
            })
        };
        SIZES.into_iter().flat_map(of_size)
    }

    fn from_args(args: &[String]) -> Option<Self> {
        let at = args.iter().position(|arg| arg == ROW)?;
        let number = |offset: usize| args.get(at + offset)?.parse().ok();
        Some(Self {
            services: number(1)?,
            edges: number(2)?,
            dense: args.get(at + 3)? == "dense",
        })
    }

    const fn graph(self) -> &'static str {
        if self.dense { "dense" } else { "simulators" }
    }

    fn problem(self, seed: u64) -> Problem {
        let recipe = Recipe::sweep(self.services).with_edges(self.edges);
        let recipe = if self.dense { recipe.dense() } else { recipe };
        let mut spec = generate(&recipe, seed).unwrap();
        for edge in &mut spec.edges {
            edge.target = Some(Micros::try_new(TARGET_US).unwrap());
        }
        Problem::try_new(spec).unwrap()
    }

    fn solved(self, seed: u64) -> Solved {
        let problem = self.problem(seed);
        let void = DensePlacement::cloud_only(&problem);
        let once = || {
            let start = cpu();
            let solution = solve(&problem, &void, Budget::default());
            (cpu().saturating_sub(start), solution)
        };
        let (mut cpu, solution) = once();
        // Others use the machine: the least time of some counts. Long ones average that out themselves.
        if cpu < LONG {
            cpu = (1..SOLVES).map(|_| once().0).fold(cpu, Duration::min);
        }
        Solved {
            cpu,
            solution,
            void_cost: evaluated(&problem, &void).cost.total().as_f64(),
            problem,
        }
    }

    /// Measures, and prints a row of the table.
    fn row(self) {
        let solved: Vec<Solved> = (0..APPLICATIONS).map(|seed| self.solved(seed)).collect();
        let memory_mib = peak_memory_mib();
        let mut times: Vec<f64> = solved.iter().map(|one| one.cpu.as_secs_f64() * 1e3).collect();
        times.sort_unstable_by(f64::total_cmp);
        let mut evaluations: Vec<u64> = solved.iter().map(|one| one.solution.evaluations).collect();
        evaluations.sort_unstable();
        let count = |is: fn(&Solved) -> bool| solved.iter().filter(|one| is(one)).count();
        let gaps = |of: fn(&Solved) -> f64| {
            let of_cost = solved
                .iter()
                .map(|one| ((one.cost() - one.bound()).max(0.0), of(one)));
            let gaps: Vec<f64> = of_cost
                .filter(|(_, of)| *of > 0.0)
                .map(|(gap, of)| 100.0 * gap / of)
                .collect();
            format!(
                "{:.2} / {:.2}",
                mean(&gaps),
                gaps.iter().copied().fold(0.0, f64::max)
            )
        };
        print!(
            "| {} | {} | {} | {:.1} | {:.1} | {} | {}/{} | {} | {} | {} |",
            self.services,
            self.edges,
            self.graph(),
            times.get(times.len() / 2).unwrap(),
            times.last().unwrap(),
            evaluations.get(evaluations.len() / 2).unwrap(),
            count(|one| one.solution.bound.optimal),
            count(Solved::met),
            gaps(Solved::cost),
            gaps(|one| one.cost() - one.void_cost),
            memory_mib,
        );
        for strategy in Strategy::ALL {
            let outcomes: Vec<(f64, bool)> = (0..)
                .zip(&solved)
                .map(|(seed, one)| one.against(strategy, seed))
                .collect();
            let above: Vec<f64> = outcomes
                .iter()
                .filter(|(_, met)| *met)
                .map(|(above, _)| *above)
                .collect();
            // A strategy that is cheaper and meets the targets shows.
            let cheaper = if above.iter().any(|above| *above < -100.0 * ROUNDING) {
                "!"
            } else {
                ""
            };
            let missed = outcomes.len() - above.len();
            let missed = if missed > 0 {
                format!(" ({missed} missed)")
            } else {
                String::new()
            };
            if above.is_empty() {
                print!(" –{missed} |");
            } else {
                print!(" {:.2}{cheaper}{missed} |", mean(&above));
            }
        }
        println!();
    }
}

// === impl Solved ===

impl Solved {
    fn cost(&self) -> f64 {
        self.solution.evaluation.cost.total().as_f64()
    }

    fn bound(&self) -> f64 {
        self.solution.bound.cost.as_f64()
    }

    fn met(&self) -> bool {
        met(&self.solution.evaluation)
    }

    /// Cost of a strategy above the solver's, percent, and whether it meets the targets. It takes one edge after the
    /// other.
    fn against(&self, strategy: Strategy, seed: u64) -> (f64, bool) {
        let mut placement = DensePlacement::cloud_only(&self.problem);
        for (edge, _) in self.problem.edges() {
            let before = delay_us(&evaluated(&self.problem, &placement), edge);
            let params = Params {
                traces: Traces::Drawn { count: 2048, seed },
                ..Params::new(Goal::Decrease((before - TARGET_US).max(0.0)))
            };
            placement = run(&self.problem, edge, &placement, strategy, &params).placement;
        }
        let result = evaluated(&self.problem, &placement);
        (
            100.0 * (result.cost.total().as_f64() / self.cost() - 1.0),
            met(&result),
        )
    }
}

fn evaluated(problem: &Problem, placement: &DensePlacement) -> Evaluation {
    evaluate(problem, placement, &Shares::resting(problem, placement))
}

fn delay_us(result: &Evaluation, edge: EdgeIx) -> f64 {
    result.edges.get(edge.position()).unwrap().delay.as_f64()
}

fn met(result: &Evaluation) -> bool {
    result
        .edges
        .iter()
        .all(|edge| edge.delay.as_f64() <= TARGET_US * (1.0 + ROUNDING))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// CPU time of this thread.
fn cpu() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime)
        .try_into()
        .unwrap()
}

/// Most memory that this process has held.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

fn table() {
    println!(
        "CPU time of a solve, ms; {APPLICATIONS} applications a row, target {} ms; gaps and differences in percent.\n",
        TARGET_US / 1e3
    );
    print!(
        "| services | edges | graph | median | slowest | evaluations | proven / met | gap of cost, mean / most |"
    );
    print!(" gap of increase, mean / most | peak MiB |");
    Strategy::ALL
        .iter()
        .for_each(|strategy| print!(" {strategy} above |"));
    println!("\n|{}", "---|".repeat(10 + Strategy::ALL.len()));
    let program = std::env::current_exe().unwrap();
    for kind in Kind::all() {
        let (services, edges) = (kind.services.to_string(), kind.edges.to_string());
        let ended = Command::new(&program)
            .args([ROW, &services, &edges, kind.graph()])
            .status()
            .unwrap();
        assert!(
            ended.success(),
            "{services} services, {edges} edges, {}: {ended}",
            kind.graph()
        );
    }
    println!();
}

fn times(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("solve");
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(SAMPLES as usize);
    group.warm_up_time(Duration::from_millis(100));
    for kind in Kind::all() {
        let problem = kind.problem(0);
        let void = DensePlacement::cloud_only(&problem);
        // More than the samples take: criterion warns where it can't take them in the time that it has.
        let start = Instant::now();
        black_box(solve(&problem, &void, Budget::default()));
        let time = start.elapsed() * SAMPLES * 5 / 4;
        group.measurement_time(time.max(Duration::from_millis(500)));
        let name = format!("{}/{}-edge", kind.graph(), kind.edges);
        let id = BenchmarkId::new(name, kind.services);
        group.bench_with_input(id, &problem, |bencher, problem| {
            bencher.iter(|| solve(black_box(problem), &void, Budget::default()));
        });
    }
    group.finish();
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(kind) = Kind::from_args(&args) {
        return kind.row();
    }
    // Without `--bench` this is a test run of the harness: criterion tries each once.
    if args.iter().any(|arg| arg == "--bench") {
        table();
    }
    times(&mut Criterion::default().configure_from_args());
}

//! One evaluation of all edges, in two passes.
//!
//! First each edge goes on with what it does, and says whether it wants a plan. Then the planner is asked once, for all
//! edges that want one: they share the cloud, and one answer for all is cheaper than one after the other. Of the answers
//! each edge begins its own or is held; one that is held (a service of its plan moves at another edge, the moves of this
//! hour are used up) does not hold the others.

use std::collections::{BTreeMap, BTreeSet};

use super::adoption::Adoption;
use super::asking::{Answer, Question};
use super::capacity::Requests;
use super::config::{Config, Objective};
use super::machine::Machine;
use super::phase::EdgeState;
use super::plan::Planner;
use super::progress::Turn;
use super::propagation::Propagation;
use super::reason::NoPlan;
use super::scaling::Autoscalers;
use super::{Effect, Ledger, routes};
use crate::cluster::{Cluster, RoutingPlan};
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::snapshot::Snapshot;

/// What the edges of one evaluation share.
pub(super) struct Round<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) cluster: &'a Cluster,
    pub(super) planner: &'a dyn Planner,
    pub(super) config: &'a Config,
    pub(super) now: Timestamp,
    pub(super) in_force: &'a RoutingPlan,
    pub(super) wanted: &'a mut RoutingPlan,
    pub(super) effects: &'a mut Vec<Effect>,
    pub(super) ledger: &'a mut Ledger,
    pub(super) autoscalers: &'a Autoscalers,
    pub(super) adoption: &'a Adoption,
    pub(super) adopt: &'a mut BTreeSet<ServiceName>,
    pub(super) requests: &'a mut Requests,
    pub(super) propagation: &'a mut Propagation,
    /// Services that move, and where.
    pub(super) busy: BTreeMap<ServiceName, AreaName>,
}

impl Round<'_> {
    /// Both passes. `edges` has exactly the edges of the configuration.
    pub(super) fn evaluate(&mut self, edges: &mut BTreeMap<AreaName, EdgeState>) {
        let config = self.config;
        let mut questions = BTreeMap::new();
        for (name, objective) in &config.edges {
            self.busy = routes::busy(edges);
            self.busy.retain(|_, at| at != name);
            if let Some(edge) = edges.get_mut(name) {
                let question = self.machine(name, objective, edge).evaluate();
                questions.extend(question.map(|question| (name, question)));
            }
        }
        if questions.is_empty() {
            return;
        }
        let mut answers = self.ask(&questions, edges);
        // Where a smaller change has no answer, a larger one may: asked again for all, because the answers belong together.
        let mut wider = false;
        for (name, question) in &mut questions {
            let refused = matches!(answers.get(name), Some(Err(_)));
            if let Some(larger) = question.wider().filter(|_| refused) {
                (*question, wider) = (larger, true);
            }
        }
        if wider {
            answers = self.ask(&questions, edges);
        }
        self.hold_steps_to_nowhere(&questions, &mut answers, edges);
        for (name, question) in questions {
            let busy = routes::busy(edges);
            let answer = answers.remove(name);
            if let (Some(objective), Some(edge), Some(answer)) =
                (config.edges.get(name), edges.get_mut(name), answer)
            {
                self.machine(name, objective, edge).begin(question, answer, &busy);
            }
        }
    }

    /// Of an offload that takes several moves the first is made only if the band can be reached.
    fn hold_steps_to_nowhere<'e>(
        &mut self,
        questions: &BTreeMap<&'e AreaName, Question>,
        answers: &mut BTreeMap<&'e AreaName, Answer>,
        edges: &mut BTreeMap<AreaName, EdgeState>,
    ) {
        let beyond = |(name, question): (&&'e AreaName, &Question)| {
            let band = self.config.edges.get(*name)?.band;
            Some((*name, question.beyond(answers.get(name)?, band)?))
        };
        let beyond: BTreeMap<_, _> = questions.iter().filter_map(beyond).collect();
        if beyond.is_empty() {
            return;
        }
        for (name, answer) in self.ask(&beyond, edges) {
            if answer.is_err() {
                answers.insert(name, answer);
            }
        }
    }

    /// One call of the planner, and whether the machine can rely on each answer.
    fn ask<'e>(
        &mut self,
        questions: &BTreeMap<&'e AreaName, Question>,
        edges: &mut BTreeMap<AreaName, EdgeState>,
    ) -> BTreeMap<&'e AreaName, Answer> {
        let config = self.config;
        let asks: Vec<_> = questions.values().map(|question| question.ask.clone()).collect();
        let mut planned = self.planner.plan(&asks, self.snapshot, self.cluster);
        let mut answers = BTreeMap::new();
        for (name, question) in questions {
            let answer = planned.remove(*name).unwrap_or(Err(NoPlan::NoBetterPlacement));
            if let (Some(objective), Some(edge)) = (config.edges.get(*name), edges.get_mut(*name)) {
                let machine = self.machine(name, objective, edge);
                answers.insert(*name, answer.and_then(|planned| machine.check(planned, question)));
            }
        }
        answers
    }

    fn machine<'t>(
        &'t mut self,
        name: &'t AreaName,
        objective: &'t Objective,
        edge: &'t mut EdgeState,
    ) -> Machine<'t> {
        Machine {
            turn: Turn {
                edge: name,
                snapshot: self.snapshot,
                cluster: self.cluster,
                config: self.config,
                now: self.now,
                in_force: self.in_force,
                wanted: self.wanted,
                effects: self.effects,
                planner: self.planner,
                adoption: self.adoption,
                adopt: self.adopt,
                requests: self.requests,
                propagation: self.propagation,
            },
            objective,
            ledger: self.ledger,
            autoscalers: self.autoscalers,
            busy: &self.busy,
            edge,
        }
    }
}

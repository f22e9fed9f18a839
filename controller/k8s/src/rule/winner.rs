//! Which rules are in force for a caller, as istiod looks them up (pilot, `push_context.go`): first those of the caller's
//! namespace, then the service's, then the mesh's root; the most specific host there wins, and nothing is merged across
//! namespaces.

use super::object::Rule;
use super::shape::{cleaned, yaml};
use super::{Held, Mesh, Order, created_name};
use crate::settings::service_name;

/// Rules for exactly one host in one namespace, the older first.
#[derive(Clone, Debug)]
pub(super) struct Winner<'a> {
    oldest: &'a Rule,
    pub(super) rules: Vec<&'a Rule>,
}

// === impl Winner ===

impl<'a> Winner<'a> {
    /// The one whose policy is in force: istiod takes that of the oldest that has one. Where none has, the oldest.
    pub(super) fn target(&self) -> &'a Rule {
        self.rules
            .iter()
            .copied()
            .find(|rule| rule.policy().is_some())
            .unwrap_or(self.oldest)
    }
}

// === free functions ===

/// What is in force for callers in a namespace; none: nothing is.
pub(super) fn of<'a>(mesh: &'a Mesh, order: &Order<'_>, caller: &str) -> Result<Option<Winner<'a>>, Held> {
    let root = mesh.root_namespace.as_str();
    let local = most_specific(mesh, caller, order, |rule| {
        if caller == root {
            rule.is_private()
        } else {
            rule.is_local()
        }
    });
    let exported =
        |namespace: &str| most_specific(mesh, namespace, order, |rule| rule.is_exported_to(caller));
    let found = local
        .or_else(|| exported(order.namespace))
        .or_else(|| exported(root));
    let Some(winner) = found else {
        return hidden(mesh, order, caller).map_or(Ok(None), Err);
    };
    let rule = winner.oldest;
    if let Some(rule) = winner.rules.iter().find(|rule| rule.has_selector()) {
        return Err(selected(rule));
    }
    let is_exact = rule.host == order.host.as_str();
    if is_exact && (rule.namespace != root || order.namespace == root) {
        return Ok(Some(winner));
    }
    let what = if is_exact {
        format!(
            "{} lies in the root namespace, where it is in force for every caller",
            rule.path()
        )
    } else {
        format!(
            "{} is for {}: callers in {caller} need a rule for exactly this host",
            rule.path(),
            rule.host
        )
    };
    let fix = if rule.namespace == root && rule.is_private() {
        // Seen by the root namespace alone, it comes before every other rule.
        without(rule, "exportTo")
    } else {
        let is_callers = rule.namespace == caller && caller != root;
        let namespace = if is_callers { caller } else { order.namespace };
        specific(mesh, winner.target(), order, namespace)
    };
    Err(Held::shape(what, fix))
}

/// Whether the rule that would be created has its name to itself.
pub(super) fn free_name(mesh: &Mesh, order: &Order<'_>) -> Result<(), Held> {
    let name = created_name(order.host);
    let taken = mesh.rules.iter().find(|rule| {
        rule.namespace == order.namespace && rule.name == name && rule.host != order.host.as_str()
    });
    taken.map_or(Ok(()), |rule| {
        Err(Held::shape(
            format!(
                "{} has the name of the rule to be created, and is for {}",
                rule.path(),
                rule.host
            ),
            yaml(&rule.spec, &rule.namespace, &format!("{name}-renamed")),
        ))
    })
}

/// A rule for the host that this caller does not see: beside it none can be created, for the two would be merged.
fn hidden(mesh: &Mesh, order: &Order<'_>, caller: &str) -> Option<Held> {
    let rule = mesh
        .rules
        .iter()
        .find(|rule| rule.namespace == order.namespace && rule.host == order.host.as_str())?;
    if rule.has_selector() {
        return Some(selected(rule));
    }
    Some(Held::shape(
        format!(
            "{} is not exported to {caller}, which calls the service",
            rule.path()
        ),
        without(rule, "exportTo"),
    ))
}

fn selected(rule: &Rule) -> Held {
    Held::shape(
        format!(
            "{} has a workloadSelector: it is in force for some callers only",
            rule.path()
        ),
        without(rule, "workloadSelector"),
    )
}

/// The rule without one of its fields.
fn without(rule: &Rule, field: &str) -> String {
    let mut spec = rule.spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove(field);
    }
    yaml(&spec, &rule.namespace, &rule.name)
}

fn most_specific<'a>(
    mesh: &'a Mesh,
    namespace: &str,
    order: &Order<'_>,
    is_seen: impl Fn(&Rule) -> bool,
) -> Option<Winner<'a>> {
    let seen = mesh
        .rules
        .iter()
        .filter(|rule| rule.namespace == namespace && rule.covers(order.host.as_str()) && is_seen(rule));
    let seen: Vec<&Rule> = seen.collect();
    // An exact host before every wildcard, of those the longest.
    let rank = |rule: &&Rule| (!rule.host.starts_with('*'), rule.host.len());
    let best = seen.iter().copied().max_by_key(rank)?;
    let mut rules: Vec<&Rule> = seen.into_iter().filter(|rule| rule.host == best.host).collect();
    rules.sort_by(|one, two| one.by_age(two));
    let oldest = rules.first().copied()?;
    Some(Winner { oldest, rules })
}

/// The rule that would win instead, with the policy that is in force now, under a name that is free.
fn specific(mesh: &Mesh, rule: &Rule, order: &Order<'_>, namespace: &str) -> String {
    let service = service_name(order.host);
    let is_taken = mesh
        .rules
        .iter()
        .any(|rule| rule.namespace == namespace && rule.name == service);
    let name = if is_taken {
        format!("{service}-exact")
    } else {
        service.to_owned()
    };
    yaml(&cleaned(rule, order.host.as_str()), namespace, &name)
}

//! The key `policy`.

use super::fault::ServiceFault;
use super::fields::Fields;
use super::keys::POLICY_KEYS;
use super::model::{ServicePolicy, SteeringPolicy, WorkerCount};
use super::tree::{FileEntry, FileNode, FileValue, quoted};
use crate::spelling::nearest;
use crate::traffic::model::{MemberSelector, MemberValue};

const KEY: &str = "policy";

const EXPECTED: &str = "the name of a policy, or a table with name and values";

/// Reads the policy of the service.
pub(super) fn read(
    fields: &mut Fields<'_>,
    service: &str,
    workers: WorkerCount,
) -> Option<ServicePolicy> {
    let node = fields.get(KEY)?;
    let entries = match &node.value {
        FileValue::Text(_) => {
            return name(fields, KEY, node)
                .map(|policy| ServicePolicy { policy, values: Vec::new() });
        }
        FileValue::Table(entries) => entries,
        _ => {
            fields.wrong(KEY, node, EXPECTED, "");
            return None;
        }
    };
    let mut fields = fields.inner(KEY, entries);
    fields.refuse_unknown(POLICY_KEYS.into_iter(), |unknown| {
        nearest(&unknown.key, POLICY_KEYS).map(|key| format!("the nearest key is {key}"))
    });
    let values = match fields.get("values").map(|node| (node, &node.value)) {
        None => Vec::new(),
        Some((_, FileValue::Table(entries))) => entries
            .iter()
            .filter_map(|entry| match value(entry, service, workers) {
                Ok(value) => Some(value),
                Err(fault) => {
                    fields.fault(fault);
                    None
                }
            })
            .collect(),
        Some((node, _)) => {
            fields.wrong("policy.values", node, "a table, such as { 1 = 9, 2 = 1 }", "");
            Vec::new()
        }
    };
    let Some(policy) = fields.get("name") else {
        fields.fault(
            ServiceFault::new(node.at, format!("{service}.policy has no name"))
                .hint("write name = \"weights\" or another policy"),
        );
        return None;
    };
    Some(ServicePolicy { policy: name(&mut fields, "policy.name", policy)?, values })
}

fn name(fields: &mut Fields<'_>, key: &str, node: &FileNode) -> Option<SteeringPolicy> {
    match &node.value {
        FileValue::Text(text) if text == "auto" => Some(SteeringPolicy::Auto),
        FileValue::Text(text) => match text.parse() {
            Ok(policy) => Some(SteeringPolicy::Only(policy)),
            Err(error) => {
                fields.fault(ServiceFault::new(node.at, format!("{key}: {error}")));
                None
            }
        },
        _ => {
            fields.wrong(key, node, "the name of a policy", "");
            None
        }
    }
}

/// The value of a worker: its key is the number of the worker, or the name as `steer` takes it.
fn value(
    entry: &FileEntry,
    service: &str,
    workers: WorkerCount,
) -> Result<MemberValue, ServiceFault> {
    let FileEntry { key, at, node } = entry;
    let member = match key.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("{service}.{key}"),
        false => key.clone(),
    };
    let selector = match member.parse() {
        Ok(MemberSelector::Worker(name, number)) if name.as_str() == service => {
            if matches!(workers, WorkerCount::Number(most) if number > most) {
                let message = format!("policy.values: {service} has no worker {number}");
                return Err(
                    ServiceFault::new(*at, message).hint(format!("its workers are 1 to {workers}"))
                );
            }
            MemberSelector::Worker(name, number)
        }
        _ => {
            let message = format!("policy.values: {} is no worker of {service}", quoted(key));
            return Err(ServiceFault::new(*at, message)
                .hint("write the number of the worker: { 1 = 9, 2 = 1 }"));
        }
    };
    match &node.value {
        FileValue::Integer(number) if u32::try_from(*number).is_ok() => {
            Ok(MemberValue { selector, value: u32::try_from(*number).unwrap_or(u32::MAX) })
        }
        value => {
            let message =
                format!("policy.values.{key} must be a number from 0 to 4294967295, not {value}");
            Err(ServiceFault::new(node.at, message))
        }
    }
}

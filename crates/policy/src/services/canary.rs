//! The key `canary`.

use super::context::FileContext;
use super::environment::WrittenVariable;
use super::fault::ServiceFault;
use super::fields::Fields;
use super::keys::CANARY_KEYS;
use super::model::CanarySpec;
use super::tree::{FileNode, FileValue};
use super::value_kind::ValueKind;
use crate::option_values::parse_duration;
use crate::spelling::nearest;
use crate::traffic::model::CanaryShare;

const KEY: &str = "canary";

/// Reads the canary of the service, whose own variables are `around`.
pub(super) fn read(
    fields: &mut Fields<'_>,
    context: &FileContext<'_>,
    around: &[(String, String)],
) -> Option<CanarySpec> {
    let node = fields.get(KEY)?;
    let FileValue::Table(entries) = &node.value else {
        fields.wrong(KEY, node, "a table with share and what differs", "");
        return None;
    };
    let mut fields = fields.inner(KEY, entries);
    fields.refuse_unknown(CANARY_KEYS.into_iter(), |unknown| {
        nearest(&unknown.key, CANARY_KEYS).map(|key| format!("the nearest key is {key}"))
    });
    let share = match fields.get("share") {
        None => {
            fields.fault(
                ServiceFault::new(node.at, "the canary has no share")
                    .hint("write share = \"10%\": the part of new connections that it gets"),
            );
            None
        }
        Some(node) => share(&mut fields, node),
    };
    let after = fields.get("after").and_then(|node| {
        let read = ValueKind::Duration.read(&node.value).ok();
        let after = read.and_then(|text| parse_duration(&text).ok());
        let after = after.filter(|time| !time.is_zero());
        if after.is_none() {
            fields.wrong("canary.after", node, "a time above 0 and up to 24h, such as \"10m\"", "");
        }
        after
    });
    let command = fields.command("command");
    let directory = fields.directory("directory", context.directory());
    let variables = fields.variables("env");
    let environment = resolved(&mut fields, variables, context, around);
    if !["command", "directory", "env"].iter().any(|key| fields.get(key).is_some()) {
        fields.fault(ServiceFault::new(node.at, "the canary is what the service is").hint(
            "add what differs: command, directory or env, such as env = { VERSION = \"2\" }",
        ));
    }
    Some(CanarySpec { share: share?, after, command, directory, environment })
}

fn share(fields: &mut Fields<'_>, node: &FileNode) -> Option<CanaryShare> {
    let text = match &node.value {
        FileValue::Text(text) | FileValue::Other(text) => text.clone(),
        FileValue::Integer(number) => number.to_string(),
        FileValue::Boolean(_) | FileValue::List(_) | FileValue::Table(_) => String::new(),
    };
    let share = text.parse().ok();
    if share.is_none() {
        fields.wrong("canary.share", node, "a share from \"0.01%\" to \"99.99%\"", "");
    }
    share
}

/// The variables of the canary. Those of the service are around them.
fn resolved(
    fields: &mut Fields<'_>,
    variables: Vec<WrittenVariable>,
    context: &FileContext<'_>,
    around: &[(String, String)],
) -> Vec<(String, String)> {
    let caller = |name: &str| match around.iter().find(|(other, _)| other == name) {
        Some((_, value)) => Some(value.clone()),
        None => (context.variable)(name),
    };
    fields.resolved(&[variables], &caller)
}

//! The page in Markdown.

use std::fmt::Write;

use super::{Endpoint, Example, Outcome};

const INTRODUCTION: &str = "\
# What of the Docker Engine API there is

Written by the tests of `hostd/src/api/coverage/` from the daemon's tables of routes and from what its decoder makes of one
request after another; the tests fail when this page says something else. `BERTH_REWRITE_API_COVERAGE=1 cargo test -p berthd
--lib api::coverage` writes it anew. The specification is Docker's, version 1.51. What an endpoint that answers adds to it
is on [api.md](api.md).
";

const FIELDS: &str = "
## Fields of `POST /containers/create`

*Acted on*: the container is made differently. *Refused*: 501 with the text. *Warning*: named in the reply's `Warnings`.
*Impossible*: 400 with Docker's text for what Linux, or a host without such devices, does not have. *Granted*: every container
has it. A field with more than one row answers differently to different values; where a value is a part
of a whole (an option of a mount), the rest of it is as in the row above.
";

pub(super) fn page(
    specified: &[(String, Endpoint)],
    beyond: &[(String, Endpoint)],
    requests: &[Example],
) -> String {
    let mut page = INTRODUCTION.to_owned();
    let count = |state| specified.iter().filter(|(_, its)| *its == state).count();
    let (answering, absent) = (count(Endpoint::Answers), count(Endpoint::Absent));
    let _ = write!(
        page,
        "\n## Endpoints\n\n{answering} of the specification's {} answer, {absent} more answer that this host has none of what they are about \
         (plugins, a swarm); what does not answers 501 with its own name.\n\n",
        specified.len()
    );
    endpoints(&mut page, specified);
    page.push_str("\nBeyond the specification:\n\n");
    endpoints(&mut page, beyond);
    page.push_str(FIELDS);
    page.push_str("\n| field | asked for | what follows |\n|---|---|---|\n");
    for example in requests {
        let value = example.value.to_string().replace('|', "\\|");
        let _ = writeln!(page, "| `{}` | `{value}` | {} |", example.field, what_follows(&example.outcome()));
    }
    page
}

fn endpoints(page: &mut String, endpoints: &[(String, Endpoint)]) {
    page.push_str("| endpoint | |\n|---|---|\n");
    for (endpoint, state) in endpoints {
        let state = match state {
            Endpoint::Answers => "answers",
            Endpoint::Absent => "answers that there are none",
            Endpoint::NotYet => "not yet",
            Endpoint::Unknown => "**unknown**",
        };
        let _ = writeln!(page, "| `{endpoint}` | {state} |");
    }
}

fn what_follows(outcome: &Outcome) -> String {
    match outcome {
        Outcome::ActedOn => "acted on".to_owned(),
        Outcome::Granted(why) => format!("granted: {why}"),
        Outcome::Warned(warnings) => format!("warning: {warnings}"),
        Outcome::Refused(message) => format!("refused: {message}"),
        Outcome::Impossible(message) => format!("impossible: {message}"),
        Outcome::Dropped => "**dropped**".to_owned(),
        Outcome::Invalid(message) => format!("**no valid example**: {message}"),
    }
}

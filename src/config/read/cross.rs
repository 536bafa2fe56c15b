//! What must fit together across sections: names of backends, addresses to listen on.
//!
//! Called by `read` when every section has been read.

use super::context::Context;
use super::word::closest;
use crate::config::diagnostic::Found;

pub(super) fn check(context: &Context<'_>) {
    unknown_backends(context);
    colliding_binds(context);
}

fn unknown_backends(context: &Context<'_>) {
    let backends = context.backends.borrow();
    for (name, span) in context.references.borrow().iter() {
        if backends.is_empty() || backends.iter().any(|(backend, _)| backend == name.as_str()) {
            continue;
        }
        let found = Found::error("unknown-backend", format!("there is no backend `{name}`"), span.clone()).absence();
        context.report(match closest(name.as_str(), backends.iter().map(|(backend, _)| backend.as_str())) {
            Some(alike) => found.label(format!("did you mean \"{alike}\"?")),
            None => {
                let names: Vec<&str> = backends.iter().take(8).map(|(backend, _)| backend.as_str()).collect();
                found.help(format!("the backends are {}", names.join(", ")))
            }
        });
    }
}

fn colliding_binds(context: &Context<'_>) {
    let mut binds = context.binds.take();
    binds.sort_by_key(|(_, span, _)| span.start);
    // At most 100 frontends × 65 addresses: only those of the same port are compared.
    binds.sort_by_key(|(bind, ..)| bind.port);
    for same_port in binds.chunk_by(|a, b| a.0.port == b.0.port) {
        for (index, (bind, span, name)) in same_port.iter().enumerate() {
            let Some((other, other_span, other_name)) =
                same_port[..index].iter().find(|(other, ..)| bind.collides_with(other))
            else {
                continue;
            };
            let line = context.origin(other_span).line;
            context.report(
                Found::error(
                    "bind-collision",
                    format!("`{name}`: {bind} collides with {other} of `{other_name}`"),
                    span.clone(),
                )
                .label(format!("the other is on line {line}"))
                .help("two listeners cannot share a port of one address: change one of the ports"),
            );
        }
    }
}

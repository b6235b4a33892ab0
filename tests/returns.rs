//! Returns: every way in which a call ends, and targets that do not notice. Needs a C compiler, no root.

#[path = "returns/accounts.rs"]
mod accounts;
mod support;

#[path = "returns/durations.rs"]
mod durations;
#[path = "returns/ends.rs"]
mod ends;
#[path = "returns/everything.rs"]
mod everything;
#[path = "returns/go.rs"]
mod go;
#[path = "returns/killed.rs"]
mod killed;
#[path = "returns/leaving.rs"]
mod leaving;
#[path = "returns/reclaim.rs"]
mod reclaim;
#[path = "returns/refused.rs"]
mod refused;
#[path = "returns/stacks.rs"]
mod stacks;

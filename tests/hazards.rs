//! What goes wrong when code is patched, one tiny program each: it computes something, looks at
//! it, and says `right`. Needs a C and a C++ compiler, no root.

mod support;

#[path = "hazards/exceptions_to_the_rule.rs"]
mod exceptions_to_the_rule;
#[path = "hazards/life.rs"]
mod life;
#[path = "hazards/offsets.rs"]
mod offsets;
#[path = "hazards/sweep.rs"]
mod sweep;
#[path = "hazards/verdicts.rs"]
mod verdicts;

//! One traced target from start to end: plan, arm, handle what happens, disarm, report. The event
//! loop owns all state and is kept short; each kind of thing that happens has a file of its own.

mod arm;
mod child;
mod detach;
mod detours;
mod differences;
mod dispositions;
mod end;
mod hit;
mod ifunc;
mod module;
mod patch;
mod plan;
mod preview;
mod quiescent;
mod report;
mod resolve;
mod restore;
mod run;
mod tasks;
mod text;
mod write;

pub use end::{Ended, Outcome};
pub use module::{Module, modules};
pub use plan::{Ground, Plan, PlanError, Planned, Wanted, plan};
pub use preview::preview;
pub use resolve::Exclude;
pub use restore::{Restored, restore};
pub use run::{Options, Session};

//! Traced processes from start to end: plan, arm, handle what happens, disarm, report. `run` is the
//! event loop and owns them all, `tracee` is one of them; each kind of thing that happens has a file
//! of its own.

mod arguments;
mod arm;
mod asks;
mod atlas;
mod child;
mod detach;
mod detours;
mod differences;
mod dispositions;
mod end;
mod estimate;
mod facts;
mod family;
mod follow;
mod foreign;
mod guard;
mod hit;
mod holes;
mod hooks;
mod ifunc;
mod jump;
mod land;
mod loader;
mod module;
mod names;
mod opened;
mod patch;
mod plan;
mod preview;
mod quiescent;
mod report;
mod resolve;
mod restore;
mod run;
mod script;
mod tasks;
mod text;
mod titles;
mod totals;
mod tracee;
mod wanted;
mod write;

pub use end::{Ended, Outcome};
pub use estimate::{Estimate, estimate};
pub use land::Landing;
pub use module::{Module, modules};
pub use opened::Opened;
pub use plan::{Ground, Plan, PlanError, Planned, plan};
pub use preview::preview;
pub use resolve::Exclude;
pub use restore::{Restored, restore};
pub use run::{Options, Session};
pub use script::{Language, lowered};
pub use wanted::{Memory, Pending, Progress, Wanted};

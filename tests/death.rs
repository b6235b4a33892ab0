//! The death of the tracer: the target goes on, whatever kptrace was doing when it was killed. Also
//! the ends that kptrace is asked for, and the death of its guardian. Needs a C compiler, no root.

mod support;

#[path = "death/asked.rs"]
mod asked;
#[path = "death/asks.rs"]
mod asks;
#[path = "death/guardian.rs"]
mod guardian;
#[path = "death/kills.rs"]
mod kills;
#[path = "death/landing.rs"]
mod landing;
#[path = "death/orphans.rs"]
mod orphans;

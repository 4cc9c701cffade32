//! The whole server under load beside nginx, and the proofs that need real processes.
//!
//! Two programs in one binary: `patchbay-bench load` measures the hot paths (`docs/benchmarks.md` says how to read
//! its table), `patchbay-bench prove NAME` shows at full figures what the tests show at small ones and writes
//! `docs/proof/NAME.md`. Both start the real `patchbay` as child processes; kills are kills.

pub mod load;
mod matrix;
mod measure;
pub mod neighbours;
pub mod process;
pub mod prove;
pub mod report;
pub mod rig;
pub mod seed;
pub mod stream;
pub mod upstream;
pub mod wire;

//! Provider definitions: format, embedded catalogue, overrides, templates, forms.

pub mod catalogue;
pub mod check;
pub mod definition;
pub mod finding;
pub mod forms;
pub mod integration_config;
pub mod pem;
pub mod scopes;
pub mod template;

mod language;
mod source;
mod suggest;
#[expect(
    unreachable_pub,
    reason = "shared with the build script, which is another crate"
)]
mod yaml;

pub use catalogue::{Catalogue, CatalogueHandle, Provider};
pub use definition::Definition;
pub use finding::{Finding, Origin, Severity};
pub use forms::{Form, FormContext};
pub use language::Language;
pub use source::Source;
pub use template::{Mode, Scope, Template};

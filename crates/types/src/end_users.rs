//! End users and their organization: deprecated on the wire, translated to tags, still answered where stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{EndUserId, EnvironmentId};

/// `end_user` of a request (api-core §10.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndUserInput {
    /// The product's id of the person.
    pub id: String,
    /// Their e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Labels, original case kept; values may be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

/// `organization` of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationInput {
    /// The product's id of the organization.
    pub id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// A stored end user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndUser {
    /// Row.
    pub id: EndUserId,
    /// Environment it belongs to; `end_user_id` is unique within.
    pub environment_id: EnvironmentId,
    /// What the product said.
    pub user: EndUserInput,
    /// Its organization.
    pub organization: Option<OrganizationInput>,
}

-- Accounts, environments and everything in them. Owners and retention of every table: the module docs of
-- `retention`. Times are microseconds since 1970, booleans 0 or 1, JSON is text, {bytes} columns not called a hash
-- are sealed by the vault.

CREATE TABLE account (
  id {id},
  uuid TEXT NOT NULL UNIQUE,
  slug TEXT NOT NULL UNIQUE,
  created_at {int} NOT NULL
){strict};

CREATE TABLE setting (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL,
  updated_at {int} NOT NULL
){clustered};

CREATE TABLE environment (
  id {id},
  uuid TEXT NOT NULL UNIQUE,
  account_id {int} NOT NULL REFERENCES account (id),
  name TEXT NOT NULL,
  is_production {bool} NOT NULL,
  settings {bytes} NOT NULL,
  signing_key {bytes} NOT NULL,
  created_at {int} NOT NULL,
  deleted_at {int}
){strict};
CREATE UNIQUE INDEX environment_live_name ON environment (account_id, name) WHERE deleted_at IS NULL;
CREATE INDEX environment_deleted ON environment (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE environment_variable (
  environment_id {int} NOT NULL REFERENCES environment (id),
  name TEXT NOT NULL,
  value {bytes} NOT NULL,
  updated_at {int} NOT NULL,
  PRIMARY KEY (environment_id, name)
){clustered};

CREATE TABLE api_key (
  id {id},
  uuid TEXT NOT NULL UNIQUE,
  account_id {int} NOT NULL REFERENCES account (id),
  environment_id {int} REFERENCES environment (id),
  display_name TEXT NOT NULL,
  scopes TEXT NOT NULL,
  secret_hash {bytes} NOT NULL,
  secret {bytes} NOT NULL,
  last_used_at {int},
  created_at {int} NOT NULL,
  deleted_at {int}
){strict};
CREATE UNIQUE INDEX api_key_live_secret ON api_key (secret_hash) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX api_key_live_environment_name ON api_key (environment_id, display_name)
  WHERE deleted_at IS NULL AND environment_id IS NOT NULL;
CREATE UNIQUE INDEX api_key_live_account_name ON api_key (account_id, display_name)
  WHERE deleted_at IS NULL AND environment_id IS NULL;
CREATE INDEX api_key_environment ON api_key (environment_id);
CREATE INDEX api_key_deleted ON api_key (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE integration (
  id {id},
  environment_id {int} NOT NULL REFERENCES environment (id),
  unique_key TEXT NOT NULL,
  provider TEXT NOT NULL,
  display_name TEXT,
  forward_webhooks {bool} NOT NULL,
  secrets {bytes} NOT NULL,
  created_at {int} NOT NULL,
  updated_at {int} NOT NULL,
  deleted_at {int}
){strict};
CREATE UNIQUE INDEX integration_live_key ON integration (environment_id, unique_key) WHERE deleted_at IS NULL;
CREATE INDEX integration_environment ON integration (environment_id);
CREATE INDEX integration_deleted ON integration (deleted_at) WHERE deleted_at IS NOT NULL;

-- `search` is what a search looks into, folded to lower case by us: databases disagree on case.
CREATE TABLE end_user (
  id {id},
  environment_id {int} NOT NULL,
  end_user_id TEXT NOT NULL,
  email TEXT,
  display_name TEXT,
  tags TEXT,
  organization_id TEXT,
  organization_display_name TEXT,
  search TEXT NOT NULL,
  created_at {int} NOT NULL,
  updated_at {int} NOT NULL
){strict};
CREATE UNIQUE INDEX end_user_id_in_environment ON end_user (environment_id, end_user_id);
CREATE INDEX end_user_organization ON end_user (environment_id, organization_id)
  WHERE organization_id IS NOT NULL;

CREATE TABLE connection (
  id {id},
  environment_id {int} NOT NULL,
  integration_id {int} NOT NULL REFERENCES integration (id),
  connection_id TEXT NOT NULL,
  credentials {bytes} NOT NULL,
  connection_config {bytes} NOT NULL,
  metadata TEXT,
  tags TEXT NOT NULL,
  end_user {int},
  webhook_url_override TEXT,
  generation {int} NOT NULL,
  credentials_expires_at {int},
  last_refresh_success {int},
  last_refresh_failure {int},
  refresh_attempts INTEGER NOT NULL,
  refresh_exhausted {bool} NOT NULL,
  refresh_cause TEXT,
  previous_refresh_token {bytes},
  previous_refresh_token_until {int},
  last_fetched_at {int},
  search TEXT NOT NULL,
  created_at {int} NOT NULL,
  updated_at {int} NOT NULL,
  deleted_at {int}
){strict};
CREATE UNIQUE INDEX connection_live_id ON connection (integration_id, connection_id) WHERE deleted_at IS NULL;
CREATE INDEX connection_newest ON connection (environment_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX connection_by_id ON connection (environment_id, connection_id) WHERE deleted_at IS NULL;
CREATE INDEX connection_of_integration ON connection (integration_id, created_at, id);
CREATE INDEX connection_of_end_user ON connection (end_user, created_at, id) WHERE end_user IS NOT NULL;
CREATE INDEX connection_stale ON connection (last_fetched_at, id)
  WHERE deleted_at IS NULL AND refresh_exhausted = 0;
CREATE INDEX connection_previous_token ON connection (previous_refresh_token_until)
  WHERE previous_refresh_token_until IS NOT NULL;
CREATE INDEX connection_deleted ON connection (deleted_at) WHERE deleted_at IS NOT NULL;

-- One row a tag of a live connection. The index answers "newest connections with this tag" by itself.
CREATE TABLE connection_tag (
  connection {int} NOT NULL REFERENCES connection (id),
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  environment_id {int} NOT NULL,
  created_at {int} NOT NULL,
  PRIMARY KEY (connection, key)
){clustered};
CREATE INDEX connection_tag_newest ON connection_tag (environment_id, key, value, created_at, connection);

-- Active failures. `subject` tells failures of one kind apart (the sync's name).
CREATE TABLE connection_error (
  connection {int} NOT NULL REFERENCES connection (id),
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  log_id TEXT NOT NULL,
  created_at {int} NOT NULL,
  PRIMARY KEY (connection, kind, subject)
){clustered};

CREATE TABLE connect_session (
  id {id},
  account_id {int} NOT NULL,
  environment_id {int} NOT NULL,
  token_hash {bytes} NOT NULL UNIQUE,
  spec {bytes} NOT NULL,
  connection {int},
  operation_id TEXT,
  created_at {int} NOT NULL,
  expires_at {int} NOT NULL
){strict};
CREATE INDEX connect_session_expiry ON connect_session (expires_at);

CREATE TABLE auth_attempt (
  state_hash {bytes} PRIMARY KEY,
  environment_id {int} NOT NULL,
  document {bytes} NOT NULL,
  created_at {int} NOT NULL
){strict};
CREATE INDEX auth_attempt_age ON auth_attempt (created_at);

CREATE TABLE refresh_intent (
  connection {int} PRIMARY KEY,
  generation {int} NOT NULL,
  fence {int} NOT NULL,
  started_at {int} NOT NULL
){strict};

CREATE TABLE refresh_event (
  id {id},
  connection {int} NOT NULL,
  at {int} NOT NULL,
  reason TEXT NOT NULL,
  success {bool} NOT NULL,
  cause TEXT,
  detail TEXT
){strict};
CREATE INDEX refresh_event_timeline ON refresh_event (connection, id);

-- A released lease keeps its row, so that its fencing token never repeats.
CREATE TABLE lease (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  fence {int} NOT NULL,
  expires_at {int} NOT NULL
){clustered};

-- `due_at` orders the queue: the next attempt, or the end of the claim of who is making it.
CREATE TABLE delivery (
  id TEXT PRIMARY KEY,
  environment_id {int} NOT NULL,
  connection {int},
  kind TEXT NOT NULL,
  url TEXT NOT NULL,
  body {bytes} NOT NULL,
  operation_id TEXT,
  status TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  next_attempt_at {int} NOT NULL,
  due_at {int} NOT NULL,
  claimed_by TEXT,
  last_status INTEGER,
  last_error TEXT,
  created_at {int} NOT NULL,
  finished_at {int}
){strict};
CREATE INDEX delivery_due ON delivery (due_at, id) WHERE status = 'pending';
CREATE INDEX delivery_status ON delivery (status, id);
CREATE INDEX delivery_environment ON delivery (environment_id, id);
CREATE INDEX delivery_connection ON delivery (connection, id) WHERE connection IS NOT NULL;
CREATE INDEX delivery_finished ON delivery (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE delivery_attempt (
  delivery_id TEXT NOT NULL REFERENCES delivery (id),
  number INTEGER NOT NULL,
  at {int} NOT NULL,
  status INTEGER,
  error TEXT,
  duration_ms {int} NOT NULL,
  PRIMARY KEY (delivery_id, number)
){clustered};

CREATE TABLE operation (
  id TEXT PRIMARY KEY,
  environment_id {int} NOT NULL,
  kind TEXT NOT NULL,
  action TEXT NOT NULL,
  state TEXT NOT NULL,
  integration {int},
  connection {int},
  title TEXT NOT NULL,
  search TEXT NOT NULL,
  started_at {int} NOT NULL,
  ended_at {int}
){strict};
CREATE INDEX operation_started ON operation (started_at, id);
CREATE INDEX operation_environment ON operation (environment_id, started_at, id);
CREATE INDEX operation_connection ON operation (connection, started_at, id) WHERE connection IS NOT NULL;

CREATE TABLE message (
  id {id},
  operation_id TEXT NOT NULL,
  level TEXT NOT NULL,
  text TEXT NOT NULL,
  meta TEXT,
  at {int} NOT NULL
){strict};
CREATE INDEX message_operation ON message (operation_id, id);
CREATE INDEX message_age ON message (at);

CREATE TABLE audit_entry (
  id {id},
  account_id {int} NOT NULL,
  environment_id {int},
  at {int} NOT NULL,
  actor TEXT NOT NULL,
  resource TEXT NOT NULL,
  action TEXT NOT NULL,
  outcome TEXT NOT NULL,
  targets TEXT NOT NULL,
  context TEXT NOT NULL,
  metadata TEXT
){strict};
CREATE INDEX audit_entry_newest ON audit_entry (account_id, at, id);
CREATE INDEX audit_entry_age ON audit_entry (at);

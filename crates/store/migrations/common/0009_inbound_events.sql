-- Webhooks of providers that were accepted and have yet to take effect.
CREATE TABLE inbound_event (
  id TEXT PRIMARY KEY,
  environment_id {int} NOT NULL,
  integration_id {int} NOT NULL,
  document {bytes} NOT NULL,
  attempts {int} NOT NULL,
  next_attempt_at {int} NOT NULL,
  created_at {int} NOT NULL
){strict};
CREATE INDEX inbound_event_due ON inbound_event (next_attempt_at);

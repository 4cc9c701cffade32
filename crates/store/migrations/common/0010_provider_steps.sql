-- Steps a provider's definition has to be carried out after connecting: written with the connection, gone when done.

CREATE TABLE provider_step (
  connection {int} PRIMARY KEY,
  run TEXT NOT NULL,
  attempts {int} NOT NULL,
  due_at {int} NOT NULL
){strict};
CREATE INDEX provider_step_due ON provider_step (due_at, connection);

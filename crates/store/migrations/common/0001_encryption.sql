-- The key ring's proof and the data keys it wraps, see the module `vault`. Both are kept for ever; a data key goes
-- with its environment.

CREATE TABLE key_check (
  id {int} PRIMARY KEY CHECK (id = 1),
  key_id TEXT NOT NULL,
  sealed {bytes} NOT NULL,
  updated_at {int} NOT NULL
){strict};

CREATE TABLE data_key (
  scope TEXT PRIMARY KEY,
  wrapped {bytes} NOT NULL,
  key_id TEXT NOT NULL,
  created_at {int} NOT NULL
){clustered};
CREATE INDEX data_key_key_id ON data_key (key_id);

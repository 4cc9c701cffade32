-- Operations in the order they ended, for environments that export them.
CREATE INDEX operation_ended ON operation (environment_id, ended_at, id) WHERE ended_at IS NOT NULL;

-- Points that accounts have used of their minute, for servers that share a limit. Losing them in a crash of the
-- database costs nothing, so PostgreSQL need not write them ahead.
CREATE {unlogged_table} rate_window (
  bucket TEXT PRIMARY KEY,
  used {int} NOT NULL,
  ends_at {int} NOT NULL
){clustered};
CREATE INDEX rate_window_end ON rate_window (ends_at);

-- Until when unforced refreshes wait: the cool-down, or longer if the provider asked for it.
ALTER TABLE connection ADD COLUMN refresh_not_before {int};
-- When the product was last reminded of a failure that goes on; none: told once, when it began.
ALTER TABLE connection_error ADD COLUMN reminded_at {int};
CREATE INDEX connection_unrefreshed ON connection (integration_id, last_refresh_success)
  WHERE deleted_at IS NULL AND refresh_exhausted = 0;

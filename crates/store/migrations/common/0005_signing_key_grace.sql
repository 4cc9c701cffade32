-- The signing key before the last rotation, valid until its grace period ends.
ALTER TABLE environment ADD COLUMN previous_signing_key {bytes};
ALTER TABLE environment ADD COLUMN previous_signing_key_until {int};
CREATE INDEX environment_previous_key ON environment (previous_signing_key_until)
  WHERE previous_signing_key_until IS NOT NULL;

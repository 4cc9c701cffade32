-- Provider definitions set while the server runs, every version of them. No text: the definition was removed.
CREATE TABLE provider_override (
  provider TEXT NOT NULL,
  version {int} NOT NULL,
  definition TEXT,
  created_at {int} NOT NULL,
  PRIMARY KEY (provider, version)
){clustered};

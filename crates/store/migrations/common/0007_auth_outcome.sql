-- How attempts of the Connect UI ended, by the name the page gave them.
CREATE TABLE auth_outcome (
  connect_session {int} NOT NULL,
  attempt TEXT NOT NULL,
  outcome TEXT NOT NULL,
  created_at {int} NOT NULL,
  PRIMARY KEY (connect_session, attempt)
){clustered};
CREATE INDEX auth_outcome_age ON auth_outcome (created_at);

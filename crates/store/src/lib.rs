//! Repositories over SQLite and Postgres: migrations, encryption at rest, outbox, leases.

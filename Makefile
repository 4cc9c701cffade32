# make run    the demonstration: a server with a sample provider, offline
# make test   every behaviour, on SQLite and Postgres, with the official clients; minutes
# make prove  the full figures that issues state; writes docs/proof/
# make bench  benchmarks beside nginx; docs/benchmarks.md says how to read them
# make lint   format, clippy, docs, licences, unused dependencies

.PHONY: run test prove bench lint

run:
	cargo run --release -- demo

test:
	scripts/test.sh

prove:
	scripts/prove.sh

bench:
	scripts/bench.sh

lint:
	scripts/lint.sh

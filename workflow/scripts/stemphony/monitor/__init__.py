"""The receiver of status events and its pages: `stemphony monitor`.

- command, simulation_command: the command lines. They import Flask and SQLAlchemy only when one of them runs.
- packages: checks that the packages of the monitor are installed.
- server: makes a process that serves, from the options. demonstration: `stemphony monitor demo`.
- web/: application (admission, headers, routes of events), lanes (threads and connections), pages, views, api,
  openapi, metrics, gate, rate_limit, queries, responses, bounds (lengths of answers), services, png.
- notify/: notifier, messenger (one target), delivery (one try), exchange (HTTP and SMTP), notice, targets.
- intake/: incoming (JSON → checked events), limits, judgement (which events count), writer (the one thread that
  writes), event_store, stored_events, summaries (what an event changes), summary_cache, preview, retention,
  operators (what `stemphony monitor simulation` does).
- database/: schema, migrations, connection, upsert, credentials, audit, backup, simulations, pairs, timeline, images,
  outbox.
- state: running, stale, failed, cancelled, finished; progress, rate, time of the end.
- records: the data that these rooms pass to each other. words: numbers as people read them. static, templates.

No other part of Stemphony imports Flask, waitress or SQLAlchemy, and no job imports this package.
"""

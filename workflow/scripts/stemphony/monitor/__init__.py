"""The receiver of status events and its page: `stemphony monitor`.

command         the command line; imports nothing heavy before it knows that it is there
server          from options to a process that serves: database, lock, threads, signals
database        the database's URL, its settings, the disks that it refuses
migrations      the schema, version by version
tables          the tables as they are now
incoming        JSON of a request → checked events
limits          what one request may be, and how many may come
summaries       what an event changes: pure, whatever the order of arrival
writer          the one thread that writes; answers after the commit
state           running, stale, failed, cancelled, finished; progress, end, rate
reading         what pages and the API read
application     the web application: headers, credentials, errors, routes of events
api, pages      the routes that read
openapi         the API's description
credentials     who may send and who may look
notification    whom to tell of what, and when: webhooks and mail
exchange        one exchange by HTTP or SMTP, with one deadline
metrics         Prometheus' text format
retention       old simulations go
backup          a copy of a live database
demonstration   `stemphony monitor demo`

Flask, waitress and SQLAlchemy are imported here and nowhere else; no job imports this package.
"""

"""Status reporting by HTTP: what happens in a simulation, told to whoever listens.

events      the names of the events, their keys, their ids
settings    the block `http_reporting` of the config, with its secrets
spool       events on disk, one line each
sender      events over HTTP, in a thread of its own; the one importer of requests
reporter    what jobs and Snakemake hooks call

Nothing in here fails a simulation or holds it longer than the waits named in `reporter`; only
`settings.resolve` and `settings.load` raise, and they are for the moment before any job is queued.
"""

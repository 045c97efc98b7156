"""Status reporting: send events of a simulation to a receiver by HTTP.

events        names, keys and ids of events; error messages without secrets
block         check the config block `http_reporting` against its schema
settings      read the block from config files · secret_files: the password and certificates that the block names
stemsalabim   translate the block of STEMsalabim
spool         events on disk, one line each · delivery: how far a spool is delivered
sender        send events from a thread · transport: one HTTP request; the one importer of requests
courier       deliver the spools of a run from its main process
reporter      what jobs and Snakemake hooks call
limits        waits and sizes of the modules above

A failure of status reporting never fails a simulation, and never delays it longer than `limits` says. Only
`settings.resolve` and `settings.load` raise errors. They run before Snakemake starts a job.
"""

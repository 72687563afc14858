"""Root files that every folder uses: paths, units, safe text, atomic files, child processes.

May import: models, appliance.cli.
    atomic_files Atomic writes: a file appears complete or not at all
    paths        Paths of an installation (RUSHES_HOME) and of the shipped weights
    processes    Child processes: started, killed with their parent, how they ended
    safe_text    Removes control characters from text before it is stored or shown
    text_width   The width of text on a terminal, in cells
    units        Bytes, seconds and counts in words
Folders, each of which imports only those above it and the files here:
    direction    a shot as typed values: the fields, their rules, its file
    blocking     a direction solved to numbers, frame by frame
    capability   what a model obeys of a direction, and its prompt
    machine      what this machine is and how fast it works
    measuring    what a finished take shows, measured axis by axis
    library      the database: queue, history, machines, cached embeddings
    planning     where and how a shot runs here, how long it takes, and what helps when it does not fit
    delivery     a take becomes files: film, stills, sidecar, label
    catalog      the installed models
    worker       the child process that holds the GPU: the only place that imports torch
    daemon       claims takes, runs the worker, publishes
    scoring      a model scored on how well it obeys
    shooting     what the command line and the desk both do: quote, queue, retake, cancel
    operations   keeping an installation healthy
    cli          the command line, one file a group of verbs
"""

"""What every layer needs: paths, units, safe text, atomic files, child processes.

May import: models, appliance.cli.
    atomic_files Files appear whole or not at all: write beside, fsync, link without overwriting, fsync the folder
    paths        Where things live: one folder per house (home), and the weights that ship with the program
    processes    Child processes that cannot outlive their purpose: started in their own session, dead with their
                 parent, told apart by how they ended
    safe_text    Text that people or files supply, made safe to show: a terminal must never obey it
    text_width   How wide text is on a terminal: counted, padded, cut and wrapped in cells
    units        Bytes and seconds in words: humanising happens only at the edge, where a person reads
Folders, each of which imports only those above it and the files here:
    direction    a shot as typed values: the fields, their rules, its file
    blocking     a direction solved to numbers, frame by frame
    capability   what a model obeys of a direction, and what it is told in words
    machine      what this machine is and how fast it works
    measuring    what a finished take really shows, axis by axis
    library      the database: queue, history, machines, cached embeddings
    planning     where and how a shot runs here, how long it takes, and what to do when it does not fit
    delivery     a take becomes files that a post house accepts. One module a standard
    catalog      the models that are installed
    worker       the child process that holds the GPU: the only place that imports torch
    daemon       claims takes, runs the worker, publishes
    scoring      a model scored on how well it obeys
    shooting     what the command line and the desk both do: quote, queue, retake, cancel
    operations   keeping an installation healthy
    cli          the command line, one file a group of verbs
"""

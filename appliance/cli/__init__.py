"""The command line, one file a group of verbs.

May import: models, appliance, appliance.direction, appliance.machine, appliance.measuring, appliance.library,
appliance.delivery, appliance.catalog, appliance.daemon, appliance.scoring, appliance.shooting, appliance.operations.
    follow  Follow takes until they end: progress bars with a countdown on a terminal, plain lines anywhere else
    library The verbs that read and change the library: board, takes, take, cancel
    machine The verbs about the machine: doctor, serve, desk
    main    The command line: one parser, one error boundary; each verb imports what it needs when it runs
    models  The verb about models: what is here, bringing one in, proving one whole
    page    What the command line prints: clean lines, aligned tables, one JSON document
    score   The verb that holds a model to what it was told: score
    shoot   The verbs that turn a shot file into something: example, quote, preview, shoot, retake
"""

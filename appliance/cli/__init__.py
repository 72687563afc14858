"""The command line, one file a group of verbs.

May import: models, appliance, appliance.direction, appliance.machine, appliance.measuring, appliance.library,
appliance.delivery, appliance.catalog, appliance.daemon, appliance.scoring, appliance.shooting, appliance.operations.
    follow  Follow takes until they end: progress bars on a terminal, one line a change elsewhere
    library The verbs board, takes, take and cancel
    machine The verbs doctor, serve and desk
    main    The parser, and the boundary where errors become one line and an exit code
    models  The verb models: list, import, check
    page    Printing: lines, two-column facts, aligned tables, one JSON document
    score   The verb score
    shoot   The verbs example, quote, preview, shoot and retake
"""

"""Decide, queue, remember, deliver.

May import: models, numpy, pillow, av, pynvml, psutil, sqlite_utils. Never tui; torch in worker alone, a process apart.
What was asked:
    direction  the shot, as typed values and film words; beside it direction_camera, direction_stage, direction_notes
    fields     the one table of fields: reading (values), rules (between fields), direction_file (TOML and JSON)
    vocabulary the words of the set as numbers; presets of light
    obedience  what a model makes of each field; wants: what it reads besides words
What it means:
    blocking   the direction solved to per-frame numbers: camera, framing, moves, curves, lighting, walking, dressing
    previs     the blocking as a film, exactly and at once
    prompt     the direction in words, for models that read them; wording: the words of the set for its numbers
What this machine does about it:
    device     what is here and what is free: probe_gpu and probe_host ask, cgroups and store measure
    gpus       cards that are not here, by their datasheets; inventory: a machine's facts for people
    measure    plans held to the hardware, where a GPU is at hand
    calibrate  this machine's rates, measured by a child process; experience: they and its takes, brought to a plan
    plan       the quote: fitting (where it fits), placing (how), speeds and estimate (how long), reasons (in words),
               remedies (ways out), quoting (of files), outlook (of the queue)
What is remembered:
    library    the queue, the history and the wire; beneath it ledger (state changes), rows, migrations, opening
    take       one render of a shot, and the states it may be in; embeddings: words that were read before
    text       what people and files supply, made safe; paths: where things live; units: numbers in words
What the pictures say:
    measured   asked and measured, as values and words; kept: the pictures of a take until it is measured
    score_take what is measured on every take: score_camera, score_subject and score_light look, score_ground lends them
               the stage's geometry, flow follows points, score_align whole pictures, score_path all of them at once;
               score_track is a camera's way
    score      the scorecard of a model: score_axes (what is commanded), score_films (a worker's), score_motion (moves
               in pixels), score_stats (gain and the like), scorecard (the document), score_page (table, picture)
What renders it:
    daemon     the loop; house (one daemon each), render_take (one take's life), films (where they lie), renderer
               (its end of the line), process
    worker     the child process with torch; checkpoints: where renders save their steps
What leaves the box:
    deliver    film, pictures and page, proved before publish gives them names
    mp4        the film; color (exact RGB to YUV), label (AIGC), boxes (a witness), pictures, probe, sidecar
How people ask:
    cli        the parser and the error boundary; verbs_shoot, verbs_library, verbs_machine, verbs_models, verbs_score,
               checks (doctor), packages; model: the one a shot is made with; bringing: the process that imports one,
               followed
    page       what is printed; follow and progress: takes as they render
"""

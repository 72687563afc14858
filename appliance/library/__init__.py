"""The database: queue, history, machines, cached embeddings.

May import: models, appliance, appliance.direction, appliance.machine, appliance.measuring.
    connection  Opening the library's SQLite file the one safe way, and telling people what is wrong with it in one line
    embeddings  What encoders made of words, kept in the library: the same words are read once, and the encoder then
                stays away
    forecast    When everything that is asked for will be done: a sum over the queue, read by the command line and the
                desk
    library     The library: the queue, the history and the wire between desks, commands and the daemon, in one SQLite
                file
    machines    What the library knows of machines: their facts, their measured rates, and how their takes compared with
                plans
    migrations  The library's tables, as numbered steps: each is a function, run once, in order, and remembered
    progress    How far a take is and how long it has left: one pure function, read by the command line and the desk
    rows        Rows of the library as values, and the words people name takes by
    take        A take: one render of a shot, as a row of the library, and the states it may be in
    transitions Beneath the library: transactions, and the one function through which a take's state changes
"""

"""The task process: `python -m rota.worker MODULE_OR_FILE...`, started by an executor in the user's own environment.

Loads the user's modules and runs attempts of their tasks: async ones on one event loop, plain functions in threads.
It speaks with the executor over two inherited pipes (ROTA_TASK_FDS), one JSON array of messages a line:

    from the executor   ["run", key, job, attempt, task, args, queue, tags, traceparent, [results, omitted] or null]
                        ["cancel", key]   ["stop"]
    to the executor     ["hello", {protocol, python, tasks, error}]   ["started", last key]   ["progress", key, f, text]
                        ["blocked", key, last key, [of these, who has not begun], stack]   ["unblocked"]
                        ["out", key, stream, text]   ["stack", key, text]
                        ["ok", key, result]   ["fail", key, type, message, traceback, retryable]
                        ["cancelled", key, traceback]

Standard output and error stay the user's. The process never outlives its executor and never talks to a server itself.
"""

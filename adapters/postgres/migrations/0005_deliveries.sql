-- What is to be delivered to webhooks. Of the log only positions are kept here.

-- In a table of its own, so that no event, no row of `resources` and no answer ever holds a secret.
create table webhook_secrets (
    id uuid primary key,
    secret text not null,
    created_at timestamptz not null default clock_timestamp()
);

-- Up to where a subscription has come: what lies before is delivered, of no interest to it, or a row of `deliveries`.
-- `term` is the leader's that wrote it last; an older one does not move it any more.
create table delivery_cursors (
    subscription_id uuid primary key,
    position bigint not null,
    term bigint not null,
    changed_at timestamptz not null default clock_timestamp()
);

-- Events that could not be delivered at once: tried again (`pending`), or given up (`dead`).
create table deliveries (
    subscription_id uuid not null,
    position bigint not null,
    stream_id uuid not null,
    state text not null check (state in ('pending', 'dead')),
    attempts integer not null,
    next_at timestamptz not null,
    error text,
    changed_at timestamptz not null default clock_timestamp(),
    primary key (subscription_id, position)
);
create index deliveries_by_state on deliveries (subscription_id, state, position);

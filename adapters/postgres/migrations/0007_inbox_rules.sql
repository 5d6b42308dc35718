-- Which tasks and queues a role may put into the inbox. Only the owner writes here. A role without a row may put in
-- anything but `shell.run`; one with rows only what one of them allows. `*` stands for any characters.
create table inbox_rules (
    role text not null,
    task text not null,
    queue text not null default '*',
    primary key (role, task, queue)
);

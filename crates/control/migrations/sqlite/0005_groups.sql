-- Failover groups, and the agents that run them.

-- A host's agent. Its id is the host's.
CREATE TABLE agents (
    id TEXT PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
    hash TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL
) STRICT;

-- The reservation of a volume is one group's: a second group of it is impossible.
CREATE TABLE failover_groups (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    volume TEXT NOT NULL UNIQUE REFERENCES volumes (id),
    body TEXT NOT NULL,
    UNIQUE (project, name)
) STRICT;
CREATE INDEX failover_groups_by_project ON failover_groups (project, id);
CREATE INDEX failover_groups_by_bare_name ON failover_groups (name);

-- A host that a group names cannot be removed.
CREATE TABLE group_hosts (
    group_id TEXT NOT NULL REFERENCES failover_groups (id) ON DELETE CASCADE,
    host TEXT NOT NULL REFERENCES hosts (id),
    PRIMARY KEY (group_id, host)
) STRICT;
CREATE INDEX group_hosts_by_host ON group_hosts (host);

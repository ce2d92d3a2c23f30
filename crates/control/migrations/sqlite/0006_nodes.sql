-- Nodes, and operations that are about one and not about a volume.

CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;

ALTER TABLE operations RENAME TO operations_of_volumes;
CREATE TABLE operations (
    id TEXT PRIMARY KEY,
    project TEXT REFERENCES projects (id) ON DELETE CASCADE,
    volume TEXT,
    state TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
INSERT INTO operations (id, project, volume, state, body)
    SELECT id, project, volume, state, body FROM operations_of_volumes;
DROP TABLE operations_of_volumes;
CREATE INDEX operations_by_project ON operations (project, id);
CREATE INDEX operations_by_state ON operations (state);
CREATE INDEX operations_by_volume ON operations (volume);

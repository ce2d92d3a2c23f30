-- File volumes: who may mount them, and what uses them.

CREATE TABLE networks (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL
) STRICT;

ALTER TABLE volumes ADD COLUMN kind TEXT NOT NULL DEFAULT 'block';
ALTER TABLE volumes ADD COLUMN network TEXT REFERENCES networks (id);
CREATE INDEX volumes_by_network ON volumes (network);
CREATE INDEX volumes_by_kind ON volumes (kind, id);
-- The name stands in the path that clients mount: a second one of the same name is impossible,
-- whatever the code above believes.
CREATE UNIQUE INDEX file_volumes_by_name ON volumes (project, name) WHERE kind = 'file';

-- `volume` is empty while there is none of that name: a reservation. A volume that is referenced
-- cannot be removed.
CREATE TABLE volume_references (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    volume_name TEXT NOT NULL,
    volume TEXT REFERENCES volumes (id),
    body TEXT NOT NULL,
    UNIQUE (project, volume_name, kind, name)
) STRICT;
CREATE INDEX volume_references_by_volume ON volume_references (volume);
CREATE INDEX volume_references_by_project ON volume_references (project, id);
CREATE INDEX volume_references_by_bare_name ON volume_references (name);

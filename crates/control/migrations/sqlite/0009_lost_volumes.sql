-- Volumes that were given up with their nodes: a node that comes back is told to serve them to nobody.

CREATE TABLE lost_volumes (
    id TEXT PRIMARY KEY NOT NULL,
    body TEXT NOT NULL,
    untold INTEGER
) STRICT;
CREATE INDEX lost_volumes_untold ON lost_volumes (untold) WHERE untold IS NOT NULL;

-- The way to a node that was forgotten outlives it until then.
CREATE TABLE doors (
    id TEXT PRIMARY KEY NOT NULL,
    body TEXT NOT NULL
) STRICT;
INSERT INTO doors (id, body) SELECT id, body FROM node_doors;
DROP TABLE node_doors;
ALTER TABLE doors RENAME TO node_doors;

-- Volumes of which a move has left something in other pools.

ALTER TABLE volumes ADD COLUMN left_over INTEGER;
CREATE INDEX volumes_left_over ON volumes (left_over) WHERE left_over IS NOT NULL;

"""Files and folders: tables, settings, temporary files, arrays kept on disk, and the space that they need."""

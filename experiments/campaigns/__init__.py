"""Long measurements of the whole program: each trains, kills, resumes or plans many runs, and writes a page of docs/."""

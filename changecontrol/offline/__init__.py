"""What is handed out with evidence and runs anywhere: one file, no import of ours."""

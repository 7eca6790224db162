"""Everything that has to run, on one machine, with local venues: started, shown and stopped by one command each."""

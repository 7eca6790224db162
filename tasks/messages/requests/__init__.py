"""What people ask for in Slack: understood, allowed or refused, asked for, and answered to the person alone."""

"""What reports, `lacuna explain` and `lacuna predict` draw, for people to look at."""

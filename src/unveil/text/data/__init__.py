"""What x_0 is: files and arrays of the application's data."""

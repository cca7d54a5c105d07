"""What training learns from: frames and random views of them, or the features that a frozen backbone gives of both."""
